"""Faults of three brokers behind a balancer, and of the etcd of three members that they share."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from balancer import Balancer
from client import Board, Crowd, Line, goes_on
from cluster import Cluster, Member
from town import Town

BROKERS = 3


def runs(folder: Path, board: Board, *, long: bool) -> None:
    cluster = Cluster(folder / "etcd")
    (folder / "etcd").mkdir()
    town, balancers = None, []
    try:
        cluster.opens()
        town = Town(folder / "town", brokers=BROKERS, store=cluster.store)
        behind = list(zip(*town.ports)) if BROKERS > 1 else []
        balancers = [Balancer(port, list(ports)) for port, ports in zip((town.http, town.grpc), behind)]
        town.opens()
        strikes = _strikes(cluster, town, board)
        with Crowd(town, board, next(iter(strikes))):
            for name, strike in strikes.items():
                board.begins(name)
                for _ in range(15 if long else 1):
                    goes_on(board)
                    board.struck()
                    strike()
                    goes_on(board)
                town.rouses()
    finally:
        if town:
            town.closes()
        for balancer in balancers:
            balancer.closes()
        cluster.closes()


def _strikes(cluster: Cluster, town: Town, board: Board) -> dict[str, Callable[[], None]]:
    def follower() -> Member:
        leader = cluster.leader()
        return random.choice([member for member in cluster.members if member is not leader])

    def kills(member: Member) -> None:
        member.is_killed()
        time.sleep(random.uniform(0.5, 3))
        member.starts(cluster.members)

    def cuts_off(member: Member) -> None:
        member.is_cut_off()
        time.sleep(random.uniform(2, 5))
        member.is_reached_again()

    def kills_broker() -> None:
        broker = random.choice(town.brokers)
        broker.is_killed()
        time.sleep(random.uniform(0, 1))
        broker.starts()

    def quorum_is_gone() -> None:
        gone = [cluster.leader(), follower()]
        for member in gone:
            member.is_killed()
        time.sleep(3)
        line = Line(town)
        for path in ("/.well-known/openid-configuration", "/jwks"):
            if (answer := line.asks("GET", f"{town.url}{path}", {})).status != 200:
                board.wrong(f"{path} while there is no quorum: {answer.status}")
        for member in gone:
            member.starts(cluster.members)

    return {
        "kill -9 of etcd's leader": lambda: kills(cluster.leader()),
        "kill -9 of another member": lambda: kills(follower()),
        "SIGSTOP of etcd's leader": lambda: cluster.leader().pauses(random.uniform(1, 4)),
        "etcd's leader cut off": lambda: cuts_off(cluster.leader()),
        "another member cut off": lambda: cuts_off(follower()),
        "two of three members dead": quorum_is_gone,
        "kill -9 of one of three brokers": kills_broker,
        "SIGSTOP of one of three brokers": lambda: random.choice(town.brokers).pauses(random.uniform(0.5, 3)),
    }
