"""What the table of the change benchmark cannot say by itself."""

NOTES = """\
What is missed, and why:

* Java as it comes keeps addresses for 30 s, whatever their TTL. With `exec --drain` of interval +
  TTL + 30 s it fails nobody, but it cannot follow shares that move sooner; with
  `networkaddress.cache.ttl=2` it follows as any client of the DNS.
* Addresses alone (A, AAAA) have no weights: whoever takes any of them shares by the number of
  tasks, as Java does here and Traefik everywhere. SRV records, transport and listener keep shares.
* A port that was closed for less than two seconds, with no caller to meet it, was not seen to
  refuse: while nothing may be read, whoever listens there next is not told apart. Only TLS proves
  identity.""".splitlines()
