"""How others decide what to check next, as far as their sources and manuals say; what CI does is `bot.bench.waiting`.

None of them runs a red check again by itself: a flake is a person's business there.
"""

from dataclasses import dataclass, field

from bot.bench.waiting import Change, Run, World


@dataclass
class Serial:
    """rust-lang/bors: one change at a time, the next when the last has landed or is red."""

    run: Run | None = None

    def turn(self, world: World) -> None:
        """See bot.bench.waiting.Policy."""
        if self.run and self.run.green is not None:
            change = self.run.changes[0]
            world.land(self.run) if self.run.green else world.eject(change)
            self.run = None
        if self.run is None and world.waiting:
            self.run = world.check(world.waiting[:1])


@dataclass
class Halving:
    """bors-ng: all that waits is one batch; a red one is halved, the halves are tried one after the other."""

    run: Run | None = None
    halves: list[tuple[Change, ...]] = field(default_factory=list)

    def turn(self, world: World) -> None:
        """See bot.bench.waiting.Policy."""
        if self.run and self.run.green is not None:
            batch = self.run.changes
            if self.run.green:
                world.land(self.run)
            elif len(batch) == 1:
                world.eject(batch[0])
            else:
                middle = (len(batch) + 1) // 2
                self.halves = [batch[:middle], batch[middle:], *self.halves]
            self.run = None
        if self.run is None and world.waiting:
            batch = self.halves.pop(0) if self.halves else tuple(world.waiting)
            self.run = world.check(batch)


@dataclass(eq=False)
class Item:
    """A change in a train; `run` checks it with all of `ahead`, the nearest item before it that is not failing."""

    change: Change
    ahead: "Item | None" = None
    run: Run | None = None

    def content(self) -> tuple[Change, ...]:
        """The changes of its run, in order."""
        return (*(self.ahead.content() if self.ahead else ()), self.change)

    @property
    def red(self) -> bool:
        """Whether its own run, on what is ahead of it, failed."""
        return self.run is not None and self.run.green is False


@dataclass
class Train:
    """Zuul's dependent pipeline: each item is checked on the nearest non-failing one ahead, all at once in a window.

    The window starts at 20 items, grows by one with each landing and is halved by each failure, to 3 at the least.
    """

    window: int = 20
    items: list[Item] = field(default_factory=list)

    def turn(self, world: World) -> None:
        """See bot.bench.waiting.Policy."""
        known = {item.change for item in self.items}
        self.items += [Item(change) for change in world.waiting if change not in known]
        while self._pass(world):
            pass

    def _pass(self, world: World) -> bool:
        """One walk from front to back; whether it changed something in front of what it had seen."""
        nearest: Item | None = None
        anew: set[Item | None] = set()
        for index, item in enumerate(self.items):
            if item.ahead is not nearest or item.run is None or item.ahead in anew:
                anew.add(item)
                world.cancel(item.run)
                item.ahead, item.run = nearest, None
                if index < self.window:
                    item.run = world.check(item.content(), item.change.number)
            if item.run and nearest is None and item.run.green is not None:
                self._report(world, item)
                return True
            if not item.red:
                nearest = item
        return False

    def _report(self, world: World, item: Item) -> None:
        assert item.run is not None
        self.items.remove(item)
        if item.run.green:
            world.land(item.run)
            self.window += 1
            for behind in self.items:
                behind.ahead = None if behind.ahead is item else behind.ahead
        else:
            world.eject(item.change)
            self.window = max(3, self.window // 2)


@dataclass
class Group:
    """GitHub's merge queue as it is set up by default: five are built at once, each with all that are ahead of it; what
    is green up to the front is merged; the one at the front that is red leaves, and all behind it are built anew.

    So read from its manual and rulesets (ALLGREEN, max_entries_to_build 5, min_entries_to_merge 1); a red one further
    behind stays until all ahead of it are merged or gone.
    """

    size: int = 5
    items: list[Item] = field(default_factory=list)

    def turn(self, world: World) -> None:
        """See bot.bench.waiting.Policy."""
        known = {item.change for item in self.items}
        self.items += [Item(change) for change in world.waiting if change not in known]
        while self.items and self.items[0].run and self.items[0].run.green is not None:
            first = self.items.pop(0)
            assert first.run is not None
            if first.run.green:
                world.land(first.run)
                continue
            world.eject(first.change)
            for item in self.items:
                world.cancel(item.run)
                item.run = None
        for index, item in enumerate(self.items[: self.size]):
            if item.run is None:
                content = [ahead.change for ahead in self.items[: index + 1]]
                item.run = world.check(content, item.change.number)
