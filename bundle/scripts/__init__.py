"""Parts of the endoscopic lesion segmentation bundle, one kind of thing a folder."""
