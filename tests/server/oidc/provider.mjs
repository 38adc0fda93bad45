// A provider of OpenID Connect on loopback. Anybody may log in, under any name.
// It prints its port, and reads one line of JSON: the redirection of the client, and whether the
// identity token contains all claims.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.argv[2]}/`);
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")).href);
const groups = { maria: ["approvers", "staff"], omar: ["operators"], guest: ["staff"] };
const server = createServer();
server.listen(0, "127.0.0.1", () => {
  process.stdout.write(`${server.address().port}\n`);
});
const lines = createInterface({ input: process.stdin });
lines.once("line", (line) => {
  const given = JSON.parse(line);
  const shared = { redirect_uris: [given.redirect], response_types: ["code"], grant_types: ["authorization_code"] };
  const provider = new Provider(`http://localhost:${server.address().port}`, {
    clients: [
      { client_id: "public", token_endpoint_auth_method: "none", ...shared },
      { client_id: "confidential", client_secret: "a secret of the client", ...shared },
    ],
    claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
    conformIdTokenClaims: !given.all,
    pkce: { required: () => true },
    cookies: { keys: ["a key of the tests"] },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: true, groups: groups[id] ?? [] }),
    }),
  });
  server.on("request", provider.callback());
  process.stdout.write("ready\n");
});
lines.on("close", () => process.exit(0));
