"""Pixels in and out: import from the submodules (`image_reader`, `mask_reader`, `media`, `writers`, ...)."""
