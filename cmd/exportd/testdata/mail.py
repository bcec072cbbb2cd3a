"""A mail server that prints what it gets, a line of JSON each: mail.py ADDRESS CERT KEY.

At port 587 it wants STARTTLS, at port 465 there is TLS from the start; both want a login.
"""
import asyncio, json, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult

address, cert, key = sys.argv[1:]
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(cert, key)


class Printer:
    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({
            "port": server.transport.get_extra_info("sockname")[1], "from": envelope.mail_from, "to": envelope.rcpt_tos,
            "data": envelope.content.decode(), "user": session.auth_data.login.decode(),
        }), flush=True)
        return "250 taken"


def login(server, session, envelope, mechanism, data):
    return AuthResult(success=data.login == b"box" and data.password == b"hunter2-mail", auth_data=data)


async def main():
    loop = asyncio.get_running_loop()
    both = {"authenticator": login, "auth_required": True}
    await loop.create_server(lambda: SMTP(Printer(), tls_context=tls, require_starttls=True, **both), address, 587)
    await loop.create_server(lambda: SMTP(Printer(), auth_require_tls=False, **both), address, 465, ssl=tls)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
