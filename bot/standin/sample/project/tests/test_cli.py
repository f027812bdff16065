import tempfile
import unittest
from pathlib import Path

from pantry.cli import main


class CommandLineTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = str(Path(folder.name) / "pantry.json")

    def run_command(self, *words):
        lines = []
        self.assertEqual(main(["--file", self.file, *words], lambda text: lines.append(str(text))), 0)
        return lines

    def test_add_and_list(self):
        self.run_command("add", "flour", "2", "kg")
        self.run_command("add", "eggs", "6")
        self.assertEqual(self.run_command("list"), ["flour: 2 kg", "eggs: 6"])
