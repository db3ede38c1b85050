"""What a screening reads: candidates, supports, known crystals."""
