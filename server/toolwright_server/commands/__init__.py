"""What the commands do. They speak to a server as any client does; only `serve` starts one."""
