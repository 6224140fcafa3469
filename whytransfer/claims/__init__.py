"""Stage 10: a table -> which of the papers' findings hold. One finding per file; CLAIMS is the list of them."""

from __future__ import annotations

from whytransfer.claims import (
    c01,
    c02,
    c03,
    c04,
    c05,
    c06,
    c07,
    c08,
    c09,
    c10,
    c11,
    c12,
    c13,
    c14,
    c15,
    c16,
    c17,
    c18,
    c19,
    c20,
    c21,
)
from whytransfer.claims.claim import SCALES, Answer, Claim, Effect, Scale, judge

__all__ = ["CLAIMS", "SCALES", "Answer", "Claim", "Effect", "Scale", "judge"]

CLAIMS: dict[str, Claim] = {
    module.CLAIM.id: module.CLAIM
    for module in (
        c01, c02, c03, c04, c05, c06, c07, c08, c09, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19, c20, c21,
    )
}  # fmt: skip
