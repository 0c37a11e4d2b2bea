"""One file per data set: card, contract, `read(folder)`."""
