"""Methods compared on episodes of families that training has not seen."""
