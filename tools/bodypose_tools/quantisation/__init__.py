"""INT8: calibration images and scales, the place of Q/DQ, accuracy gates, the search for layers."""
