import tempfile
import unittest
from pathlib import Path

from pantry.items import Item
from pantry.store import load, save


class StoreTest(unittest.TestCase):
    def test_what_is_saved_is_loaded(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pantry.json"
            self.assertEqual(load(path), [])
            save(path, [Item("salt", 1, "kg")])
            self.assertEqual(load(path), [Item("salt", 1, "kg")])
