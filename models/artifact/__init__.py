"""The parcel that travels: manifest, export, predictor."""
