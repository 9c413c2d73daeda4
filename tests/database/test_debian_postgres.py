"""The servers that other tests start: what they are, so that those tests test what they say."""

import asyncio
import ssl

import asyncpg
import pytest

from tests.debian_postgres import debian_postgres, pgbouncer, standby_of


def test_the_tests_server_is_postgresql_15_with_the_locale_tls_and_passwords_that_were_asked_for() -> None:
    with debian_postgres(locale="tr_TR.ISO-8859-9", settings={"max_connections": "20"}) as server:
        assert server.sql("show server_version_num")[0][0].startswith("15")
        assert server.sql("show server_encoding")[0][0] == "LATIN5"
        assert server.sql("show lc_collate")[0][0] == "tr_TR.ISO-8859-9"
        assert server.sql("show max_connections")[0][0] == "20"

        async def over_tls(host: str) -> bool:
            context = ssl.create_default_context(cafile=server.authority)
            connection = await asyncpg.connect(server.tcp("postgres", "postgres", host=host), ssl=context)
            try:
                used = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
                return bool(await connection.fetchval(used))
            finally:
                await connection.close()

        assert asyncio.run(over_tls("localhost"))
        with pytest.raises(ssl.SSLCertVerificationError):
            asyncio.run(over_tls("127.0.0.1"))
        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(asyncpg.connect(server.tcp("postgres", "wrong")))


def test_the_tests_standby_streams_and_the_tests_pgbouncer_passes_on() -> None:
    with debian_postgres() as server:
        with standby_of(server) as standby:
            assert standby.sql("select pg_is_in_recovery()")[0][0]
        with pgbouncer(server, {"postgres": "postgres"}) as port:

            async def ask() -> int:
                connection = await asyncpg.connect(f"postgresql://postgres:postgres@127.0.0.1:{port}/postgres")
                try:
                    return int(await connection.fetchval("show server_version_num"))
                finally:
                    await connection.close()

            assert asyncio.run(ask()) // 10_000 == 15
