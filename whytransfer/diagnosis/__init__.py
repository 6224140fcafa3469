"""Why features transfer: each diagnosis is one question, answered by numbers with intervals and by a picture."""

from whytransfer.diagnosis.detection_analysis import DetectionErrors
from whytransfer.diagnosis.detection_table import detection_errors

__all__ = ["DetectionErrors", "detection_errors"]
