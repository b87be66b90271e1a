"""People found offline and scored: AP, other views of an image, thresholds, the decoder's bound."""
