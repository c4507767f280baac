"""Many pieces at once: who is stepped, what is handed to the codec, what goes on later."""
