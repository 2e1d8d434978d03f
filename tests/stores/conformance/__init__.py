"""What every store must do, as tests that know nothing of any database.

An adapter's test module makes a fixture ``bench`` (kit.Bench: a store that is new, empty and open, on a kit.StoreClock)
and one class that inherits every class named here. A store that asks its database for the time must offer that the
database's clock is replaced: PostgreSQL for instance reads every instant from one SQL function of its own schema, and
its bench puts in the place of that function one that reads what the StoreClock says. Nothing here sleeps.
"""
