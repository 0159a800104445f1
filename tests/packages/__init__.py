"""The package, the image and the manifests: built, checked, and run where they are meant to run."""
