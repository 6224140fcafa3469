"""Stage 8, why -> Results: each diagnosis is one question about backbones, answered by numbers and a picture."""
