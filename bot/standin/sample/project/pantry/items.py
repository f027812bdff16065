"""What is on the list."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """A thing in the kitchen, how much of it, and in what unit."""

    name: str
    amount: float
    unit: str = ""

    def __str__(self):
        number = f"{self.amount:g}"
        return f"{self.name}: {number} {self.unit}".rstrip()
