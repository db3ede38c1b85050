"""The crystal network: pre-training, meta-training and adaptation."""
