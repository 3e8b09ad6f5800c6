"""Reports: self-contained pages made from records."""
