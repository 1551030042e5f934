"""Look at every file of a data set before it is trained on."""
