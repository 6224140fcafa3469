"""docs/claims.md lists the claims as they are; `python tests/claims/test_page.py` writes its table again."""

from pathlib import Path

from whytransfer.claims import CLAIMS, c16, c17, c18, c19, c20, c21, setup_small

PAGE = Path(__file__).parents[2] / "docs" / "claims.md"
RULE = "|---|---|---|---|\n"  # under the header of the first table, which is the one of the claims


def table() -> str:
    return "".join(f"| {c.id} | {c.source} | {c.finding} | {c.paper} |\n" for c in CLAIMS.values())


def test_the_page_has_every_claim_as_it_is():
    assert f"{RULE}{table()}\n" in PAGE.read_text()


def test_claims_stand_in_their_order_and_each_in_its_own_file():
    assert list(CLAIMS) == [f"C{k:02d}" for k in range(1, 22)]
    for name, claim in CLAIMS.items():
        home = f"whytransfer.claims.{name.lower()}"
        assert claim.id == name and claim.study.__module__ == claim.effects.__module__ == home
    assert [m.CLAIM.source.split()[0] for m in (c16, c17, c18, c19, c20, c21)] == ["Ericsson"] * 6


def test_a_gpu_asks_what_a_laptop_asks_and_takes_longer():
    laptop, gpu = setup_small.LAPTOP, setup_small.GPU
    assert (gpu.sets, gpu.engines, gpu.pairs, gpu.seeds) == (laptop.sets, laptop.engines, laptop.pairs, laptop.seeds)
    assert gpu.epochs / laptop.epochs == gpu.iterations / laptop.iterations == 3


if __name__ == "__main__":
    head, rest = PAGE.read_text().split(RULE, 1)
    PAGE.write_text(head + RULE + table() + "\n" + rest.split("\n\n", 1)[1])
