from tests.service import Longshore, export_body, exported


def test_a_ledger_is_exported_over_http(service: Longshore) -> None:
    with service.client() as client:
        task, content = exported(client, export_body())
    assert content.count(b"\r\n") == 20_001
    assert task["result"] == f"Wallet_Export-{task['id']}.csv"
