"""docs/claims.md lists the claims as they are; `python tests/claims/test_page.py` writes its table again."""

from pathlib import Path

from whytransfer.claims import CLAIMS

PAGE = Path(__file__).parents[2] / "docs" / "claims.md"
RULE = "|---|---|---|---|\n"  # under the header of the first table, which is the one of the claims


def table() -> str:
    return "".join(f"| {c.id} | {c.source} | {c.finding} | {c.paper} |\n" for c in CLAIMS.values())


def test_the_page_has_every_claim_as_it_is():
    assert f"{RULE}{table()}\n" in PAGE.read_text()


def test_claims_stand_in_their_order_and_each_in_its_own_file():
    assert list(CLAIMS) == sorted(CLAIMS)
    for name, claim in CLAIMS.items():
        assert (
            claim.id == name
            and claim.study.__module__ == claim.effects.__module__ == f"whytransfer.claims.{name.lower()}"
        )


if __name__ == "__main__":
    head, rest = PAGE.read_text().split(RULE, 1)
    PAGE.write_text(head + RULE + table() + "\n" + rest.split("\n\n", 1)[1])
