"""The app's tabs, one file each: layout and wiring only; what they show is computed by the library."""
