"""The vocabulary shared by Triton's Python models, the tools and the client.

Shape letters used in every docstring of the project:

    B images, N people, J joints, L limbs, P peaks kept per joint, M rows of the padded answer
    H, W network pixels; h, w field cells (network pixels / stride)

Only `images.py` (OpenCV, simplejpeg) and `image_headers.py` (simplejpeg) need more than numpy.
"""

__version__ = "0.2.0"
