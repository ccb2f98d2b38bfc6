"""What tests of several rooms need: waiting, real servers, and a browser."""
