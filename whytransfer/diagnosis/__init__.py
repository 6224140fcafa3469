"""Stage 8, why -> Results: each diagnosis is one question about backbones, answered by numbers with intervals and a picture."""
