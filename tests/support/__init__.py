"""What tests of several rooms need: waiting, and real servers."""
