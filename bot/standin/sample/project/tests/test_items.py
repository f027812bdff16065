import unittest

from pantry.items import Item


class ItemTest(unittest.TestCase):
    def test_reads_well(self):
        self.assertEqual(str(Item("flour", 2.0, "kg")), "flour: 2 kg")
        self.assertEqual(str(Item("eggs", 6)), "eggs: 6")
