"""The published dataset of explained neurons: where it is, kept on disk, looked up."""
