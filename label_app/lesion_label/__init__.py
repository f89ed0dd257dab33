"""The MONAI Label app of the bundle: what MONAI Label asks for, made of the bundle's parts."""
