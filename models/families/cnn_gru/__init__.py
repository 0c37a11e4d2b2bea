"""Where a car is: convolutions over the road map along its track, and a GRU over its fixes."""
