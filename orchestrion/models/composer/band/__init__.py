"""Who plays: the instruments that there are, and the band that a request asks for."""
