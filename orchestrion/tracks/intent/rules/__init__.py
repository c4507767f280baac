"""What phrases mean together: each module reads one kind of thing, and takes its words away from those behind it."""
