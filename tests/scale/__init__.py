"""Many tasks, many sidecars, many hours: simulated, with clocks that are moved by hand."""
