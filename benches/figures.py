"""Measures variants in turns, and prints both sides of each ratio with its budget."""
import random
import statistics

ROUNDS = 3


def title(text):
    print("\n" + text, flush=True)


def row(what, *cells):
    print(("  %-44s" % what + "".join("%14s" % cell for cell in cells)).rstrip(), flush=True)


def verdict(value, limit, text):
    return "%s %s" % (text, "PASS" if value <= limit else "OVER")


def rounds(makers, kinds, slices, times=None):
    """{kind: {label: [[a figure a slice] a round]}}.

    Each round starts every variant anew, because the memory layout and the traces that LuaJIT records change the result
    by up to a microsecond. `kinds` are (kind, prepare, measure), of a gateway. `slices` is a number, or {kind: number}.
    `times` is {kind: number of rounds}, by default ROUNDS.
    """
    slices_of = slices if isinstance(slices, dict) else dict.fromkeys([kind for kind, _, _ in kinds], slices)
    times_of = {kind: ROUNDS for kind, _, _ in kinds} | (times or {})
    result = {kind: {label: [] for label in makers} for kind, _, _ in kinds}
    for done in range(max(times_of.values())):
        gateways = {label: make() for label, make in makers.items()}
        for kind, prepare, measure in kinds:
            if done >= times_of[kind]:
                continue
            for label, gateway in gateways.items():
                prepare(gateway)
                result[kind][label].append([])
            order = list(gateways)
            for turn in range(slices_of[kind]):
                # The order changes, so that no variant always runs after the same other one.
                random.Random(100 * done + turn).shuffle(order)
                for label in order:
                    result[kind][label][-1].append(measure(gateways[label]))
        for gateway in gateways.values():
            gateway.stop()
    return result


def median_of(function, *series):
    """Median over the rounds of the median over the slices; only slices of the same moment are combined."""
    return statistics.median(statistics.median(map(function, *rounds)) for rounds in zip(*series))


def round_medians(a):
    """The median of each round."""
    return [statistics.median(slices) for slices in a]


def round_differences(a, b):
    """The median of the differences in each round."""
    return [statistics.median(x - y for x, y in zip(*slices)) for slices in zip(a, b)]


def median(a):
    return median_of(lambda x: x, a)


def difference(a, b):
    return median_of(lambda x, y: x - y, a, b)


def ratio(a, b):
    return median_of(lambda x, y: x / y, a, b)
