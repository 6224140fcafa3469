"""Stage 7, why it transfers: each diagnosis is one question, answered by numbers with intervals and by a picture."""

from whytransfer.diagnosis.detection_table import detection_errors
from whytransfer.diagnosis.whitening import Whitening, whiten

__all__ = ["Whitening", "detection_errors", "whiten"]
