"""What scorers that are neural networks share: layouts of their files, their input, texts, batches."""
