"""The champion for a device: one C file, eight bits, JavaScript, and what each asks of the device."""
