"""What is learned from: targets, splits, batches, descriptors and the checks of labels."""
