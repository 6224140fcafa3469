"""Stage 7: why it transfers. Each diagnosis asks one question of any backbones and yields Results."""

from whytransfer.diagnosis.whitening import Whitening, whiten

__all__ = ["Whitening", "whiten"]
