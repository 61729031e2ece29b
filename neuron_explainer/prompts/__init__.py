"""What language models are asked, and what is read from their answers: pure functions."""
