"""INT8: which images calibrate, where Q/DQ stands, how much may be lost, and what was lost."""
