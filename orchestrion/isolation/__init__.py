"""What strangers send is read in processes of their own: bounded in memory and time, and with nothing to steal."""
