"""Audio on its way to a reader, as fast as that reader takes it and no faster."""
