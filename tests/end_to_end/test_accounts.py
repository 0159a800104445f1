"""Accounts: registered, logged in, described, logged out."""

from __future__ import annotations

from urllib.parse import quote

from .clients import eventually, got, in_event_loop, nio, people
from .laboratory import PASSWORD, Gateway

V3 = "/_matrix/client/v3"


@in_event_loop
async def test_a_user_registers_logs_in_and_logs_out(gateway: Gateway) -> None:
    """Registration and login give tokens that work until logout, of which main tells the other processes."""
    async with people(gateway, "alice") as (alice,):
        flows = await alice.succeed("GET", f"{V3}/login")
        assert {"type": "m.login.password"} in flows["flows"]
        taken = await alice.ask("GET", f"{V3}/register/available?username={alice.user}", authorization="")
        assert (taken.status, taken.json["errcode"]) == (400, "M_USER_IN_USE")
        async with alice.on_another_device() as phone:
            assert got(nio.WhoamiResponse, await phone.whoami()).user_id == alice.user_id
            token, device = phone.access_token, phone.device_id
            got(nio.LogoutResponse, await phone.logout())
            phone.access_token = token
            gone = await eventually(lambda: phone.ask("GET", f"{V3}/account/whoami"), lambda reply: reply.status != 200)
        assert (gone.status, gone.json["errcode"]) == (401, "M_UNKNOWN_TOKEN")
        devices = got(nio.DevicesResponse, await alice.devices()).devices
        assert device not in {entry.id for entry in devices}


@in_event_loop
async def test_registration_in_two_steps_is_finished_wherever_it_arrives(gateway: Gateway) -> None:
    """An interactive registration that was begun with a 401 is completed with its session."""
    async with people(gateway, "alice") as (alice,):
        wanted = {"username": f"late-{alice.user}", "password": PASSWORD}
        begun = await alice.ask("POST", f"{V3}/register", wanted, authorization="")
        assert begun.status == 401
        auth = {"type": "m.login.dummy", "session": begun.json["session"]}
        done = await alice.ask("POST", f"{V3}/register", {**wanted, "auth": auth}, authorization="")
        assert done.json["user_id"] == f"@late-{alice.user}:lab.test"


@in_event_loop
async def test_devices_are_named_and_deleted(gateway: Gateway) -> None:
    """A device gets a name, is listed, and is deleted after the password was given."""
    async with people(gateway, "alice") as (alice,):
        async with alice.on_another_device() as laptop:
            old = laptop.device_id
        got(nio.UpdateDeviceResponse, await alice.update_device(old, {"display_name": "old laptop"}))
        names = {entry.id: entry.display_name for entry in got(nio.DevicesResponse, await alice.devices()).devices}
        assert names[old] == "old laptop"
        challenge = got(nio.DeleteDevicesAuthResponse, await alice.delete_devices([old]))
        auth = {
            "type": "m.login.password",
            "session": challenge.session,
            "identifier": {"type": "m.id.user", "user": alice.user_id},
            "password": PASSWORD,
        }
        got(nio.DeleteDevicesResponse, await alice.delete_devices([old], auth))
        left = got(nio.DevicesResponse, await alice.devices()).devices
        assert [entry.id for entry in left] == [alice.device_id]


@in_event_loop
async def test_a_profile_is_written_and_read_by_others(gateway: Gateway) -> None:
    """Display name and avatar that one user sets are what another one reads."""
    async with people(gateway, "alice", "bob") as (alice, bob):
        got(nio.ProfileSetDisplayNameResponse, await alice.set_displayname("Alice im Wunderland"))
        got(nio.ProfileSetAvatarResponse, await alice.set_avatar("mxc://lab.test/cheshire"))
        profile = got(nio.ProfileGetResponse, await bob.get_profile(alice.user_id))
        assert (profile.displayname, profile.avatar_url) == ("Alice im Wunderland", "mxc://lab.test/cheshire")


@in_event_loop
async def test_what_only_the_main_process_does_is_done_there(gateway: Gateway) -> None:
    """Pushers, OpenID tokens and third-party protocols are main's; capabilities and versions are anybody's."""
    async with people(gateway, "alice") as (alice,):
        assert await alice.succeed("GET", f"{V3}/pushers") == {"pushers": []}
        openid = await alice.succeed("POST", f"{V3}/user/{quote(alice.user_id)}/openid/request_token", {})
        assert openid["matrix_server_name"] == "lab.test"
        assert await alice.succeed("GET", f"{V3}/thirdparty/protocols") == {}
        capabilities = await alice.succeed("GET", f"{V3}/capabilities")
        assert capabilities["capabilities"]["m.room_versions"]["default"] == "12"
        assert "v1.11" in (await alice.succeed("GET", "/_matrix/client/versions"))["versions"]
