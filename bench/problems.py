"""Questions around 40 known problems of workstations, servers and programs, and questions of other subjects, of which
nothing is to be learned.

Each problem has templates, which its questions are made of with slots, a greeting now and then, and a word of where it
happened. Its paraphrases stand in none of the templates: they are for searching. The same seed makes the same questions.
"""

import random
import re

from noise import NOISE


BEFORE = ["", "", "", "", "", "", "hi, ", "quick question: ", "help please: ", "since yesterday: ", "hello! ", "again: "]
AFTER = ["", "", "", "", "", "", " any ideas?", " thanks!", " what am I missing?", " this is on {os}.", " ({os})", " I use {os}."]

SLOTS = {
    "os": ["Ubuntu 22.04", "Ubuntu 24.04", "Debian 12", "Arch", "NixOS", "Fedora 40", "a small VPS", "WSL2", "my laptop", "the build server"],
    "port": ["3000", "8080", "5000", "8000", "80", "5173", "9090"],
    "app": ["my node server", "the flask app", "the dev server", "our API", "vite", "the Rust backend", "uvicorn"],
    "img": ["nginx", "our api image", "postgres:16", "the worker", "redis", "the frontend"],
    "branch": ["main", "master", "develop", "feature/login", "release"],
    "pypkg": ["requests", "numpy", "black", "httpx", "flask", "pandas"],
    "npmpkg": ["typescript", "yarn", "pnpm", "eslint", "@angular/cli", "nodemon"],
    "host": ["my VPS", "the staging box", "github", "the raspberry pi", "the EC2 instance", "the NAS"],
    "user": ["deploy", "alice", "postgres", "app", "root", "admin"],
    "db": ["orders", "app_production", "inventory", "analytics", "mydb"],
    "pod": ["api", "the worker", "the ingest job", "web", "my deployment", "the payments service"],
    "reg": ["ghcr.io", "our GitLab registry", "ECR", "the private registry", "Docker Hub"],
    "site": ["the wiki", "our shop", "my blog", "the API", "grafana"],
    "unit": ["backup.service", "myapp.service", "the worker unit", "syncthing", "my bot", "node_exporter"],
    "script": ["backup.sh", "a python script", "my cleanup script", "the report job", "sync.sh"],
    "fw": ["React", "Vue", "the frontend", "our SPA", "the browser"],
    "gpu": ["RTX 3060", "RTX 4090", "GTX 1080", "A100", "laptop 3070"],
    "model": ["Llama 3 8B", "Mistral 7B", "Qwen 14B", "a 13B gguf", "Phi-3"],
    "phones": ["Sony XM4", "AirPods", "Bose QC35", "bluetooth headset", "JBL headphones"],
    "wifi": ["Intel AX200", "Realtek", "Broadcom", "MediaTek", "Atheros"],
    "size": ["500 MB", "2 GB", "120 MB", "1.4 GB"],
    "n": ["2", "5", "12", "30", "100"],
    "var": ["config", "s", "name", "items", "state", "buffer"],
    "table": ["users", "orders", "payments", "events", "sessions"],
    "mod": ["models", "utils", "services", "db", "views"],
    "topic": ["orders", "clicks", "events", "logs"],
}

PROBLEMS = []


def problem(name, answer, templates, paraphrases):
    """Notes a problem: at least 12 templates, and 5 paraphrases that are made of none of them."""
    templates = [line.strip() for line in templates.strip().splitlines()]
    paraphrases = [line.strip() for line in paraphrases.strip().splitlines()]
    assert len(templates) >= 12 and len(paraphrases) == 5, (name, len(templates), len(paraphrases))
    PROBLEMS.append((name, answer, templates, paraphrases))


problem("port_in_use", "Another process listens on that port already. Find it with `ss -ltnp 'sport = :3000'` or `lsof -i :3000`, stop it, or start the server on another port.", """
{app} won't start, it says address already in use on port {port}
EADDRINUSE: address already in use :::{port} when I start {app}
how do I find out which process is using port {port}?
port {port} is already taken, how can I free it
something is blocking port {port} and I can't start {app}
bind: address already in use, port {port}
how to kill whatever is listening on port {port}
I stopped {app} but port {port} is still occupied
OSError: [Errno 98] Address already in use with {app}
starting {app} fails because port {port} is in use by another program
which program holds TCP port {port} on linux
after a crash the old process still holds port {port}, how do I stop it
listen tcp 0.0.0.0:{port}: bind: address already in use
""", """
server refuses to launch as another one is already listening there
what sits on 8443 and keeps me from binding to it?
lsof or ss to see who owns a listening socket
cannot bind socket, already bound by a different process
free up a TCP port that a zombie process kept open
""")

problem("docker_socket_permission", "Your user is not in the `docker` group. `sudo usermod -aG docker $USER`, log out and in again (or `newgrp docker`), then try `docker ps`.", """
permission denied while trying to connect to the Docker daemon socket
docker ps says permission denied unless I use sudo
how can I run docker without sudo
got permission denied at unix:///var/run/docker.sock
docker only works as root, my user gets permission denied
I can't use docker as normal user, always have to type sudo
added myself to the docker group but docker still says permission denied
dial unix /var/run/docker.sock: connect: permission denied
why do I need sudo for every docker command
docker compose up fails with permission denied on the docker socket
jenkins can't access /var/run/docker.sock, permission denied
user {user} is not allowed to talk to the docker daemon
let user {user} run docker commands without root
""", """
how to grant a non-root account access to the docker daemon
docker.sock not accessible for an ordinary user
use containers as a regular user without becoming superuser each time
usermod docker group has no effect until re-login
the docker CLI is refused by its own daemon's unix socket
""")

problem("git_push_rejected", "The remote has commits you do not have. `git pull --rebase origin <branch>`, solve conflicts, then push again; do not force-push a shared branch.", """
git push rejected, non-fast-forward on {branch}
! [rejected] {branch} -> {branch} (fetch first)
can't push to {branch}: updates were rejected because the remote contains work that you do not have locally
git says my branch {branch} is behind its remote counterpart and refuses to push
push to {branch} fails because the tip of my current branch is behind
failed to push some refs to origin, {branch} rejected
someone pushed before me to {branch} and now my push is refused
should I force push when git rejects my push to {branch}?
git push error: failed to push some refs, hint: git pull before pushing again
how do I push to {branch} when it complains about non fast forward
my commits are refused by origin/{branch}, it wants me to fetch first
after rebasing {branch} git refuses the push as non-fast-forward
remote {branch} has new commits, git won't let me push mine
""", """
upload of my commits is denied since the server's history moved on
integrate a colleague's changes before sending mine to the remote
pushing is refused: the remote is ahead of me
what to do when the upstream got commits in between and my push bounces
push declined, history diverged from origin
""")

problem("git_detached_head", "Commits made on a detached HEAD belong to no branch. `git reflog` shows them; `git branch rescue <hash>` (or `git switch -c rescue`) keeps them.", """
I committed on a detached HEAD and now my commits are gone
you are in 'detached HEAD' state, how do I save my work
git lost my commits after checkout of {branch}, I was on a detached head
how to get back commits made in detached HEAD state
warning: you are leaving {n} commits behind, not connected to any of your branches
detached HEAD: how can I make a branch from where I am
I checked out a tag, made {n} commits and switched to {branch}, commits disappeared
recover commits that don't belong to any branch
how do I turn a detached head into a normal branch
HEAD detached at 3f2a1bc, how do I go back to {branch} without losing changes
git reflog to rescue commits after detached head, how does it work
my last {n} commits are not on any branch any more
checked out an old commit, worked there, and can't find my work after git checkout {branch}
""", """
rescue orphaned commits with the reflog
work done while not on any branch vanished when I switched
give dangling commits a branch name again
head points to a commit instead of a branch, keep what I did
find the hash of a commit that no ref leads to
""")

problem("pip_externally_managed", "The system's Python is managed by its package manager (PEP 668). Make a virtual environment: `python3 -m venv .venv && . .venv/bin/activate`, then `pip install …`; use pipx for tools.", """
pip install {pypkg} gives error: externally-managed-environment
error externally managed environment when installing {pypkg}
I can't pip install {pypkg} on {os}, it says this environment is externally managed
what does PEP 668 externally-managed-environment mean for pip
pip refuses to install {pypkg} system wide
should I use --break-system-packages to install {pypkg}?
how do I install {pypkg} when python is externally managed
pip3 install {pypkg} fails: to install Python packages system-wide try apt install python3-xyz
since the upgrade pip won't install {pypkg} outside a virtual environment
how to avoid break-system-packages with pip
pip says I should create a virtual environment before installing {pypkg}
installing {pypkg} with pip on Debian is blocked by the distribution
""", """
the distro's python does not let pip touch it, where do packages go
use a venv because the OS owns the interpreter
PEP 668 marker file blocks installing wheels globally
is it safe to override the protection of system site-packages
python package installation forbidden by operating system vendor
""")

problem("npm_global_eacces", "npm writes global packages to a folder of root. Set a prefix of your own: `npm config set prefix ~/.npm-global` and add `~/.npm-global/bin` to PATH, or use nvm; do not use sudo.", """
npm install -g {npmpkg} fails with EACCES permission denied
EACCES: permission denied, mkdir '/usr/local/lib/node_modules/{npmpkg}'
how to install {npmpkg} globally with npm without sudo
npm ERR! code EACCES when installing {npmpkg} globally
should I use sudo npm install -g {npmpkg}?
missing write access to /usr/local/lib/node_modules
npm global install of {npmpkg} needs root, how do I fix the permissions
I get permission denied in node_modules when running npm i -g {npmpkg}
how do I change npm's default directory for global packages
npm -g {npmpkg}: the operation was rejected by your operating system
can't install {npmpkg} with npm globally, no access to /usr/lib/node_modules
npm wants root rights to install {npmpkg} globally
""", """
node packages system-wide without superuser rights
set npm prefix to a directory in my home
global node modules folder is owned by root
nvm instead of fixing ownership of npm's global folder
cannot write to the lib/node_modules directory as a normal user
""")

problem("ssh_publickey", "The server does not accept your key. Check `ssh -v`, that the public key is in `~/.ssh/authorized_keys` there, modes 700/600, the right user, and that the agent offers the key (`ssh-add`, `IdentityFile`).", """
ssh to {host}: Permission denied (publickey)
I can't log in to {host} with my ssh key, permission denied publickey
ssh asks for nothing and says Permission denied (publickey,password) on {host}
my public key is in authorized_keys but {host} still refuses it
git clone over ssh fails with permission denied publickey
why does ssh not use my key for {host}
ssh key authentication to {host} stopped working
how do I debug ssh publickey authentication to {host}
Permission denied (publickey). fatal: Could not read from remote repository
ssh-copy-id done but {host} still denies my key
what permissions do ~/.ssh and authorized_keys need so that {host} accepts the key
no more authentication methods available when I ssh to {host}
login as {user} on {host} by key is rejected
""", """
the remote machine will not accept my id_ed25519
passwordless login is refused by sshd
server ignores the key that I installed for my account
which identity does the ssh client offer and why is it turned down
authentication by key fails over secure shell
""")

problem("ssh_host_key_changed", "The server's host key differs from the one in known_hosts: it was reinstalled, or somebody is in between. Check the fingerprint, then `ssh-keygen -R <host>` and connect again.", """
WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED when I ssh to {host}
ssh says host key verification failed for {host}
I reinstalled {host} and now ssh warns that the host key changed
how do I remove the old host key of {host} from known_hosts
Host key for {host} has changed and you have requested strict checking
offending ECDSA key in ~/.ssh/known_hosts, what to do
ssh: IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY on {host}
after rebuilding {host} host key verification fails
known_hosts entry of {host} is out of date, ssh refuses to connect
the fingerprint of {host} is different from last time, ssh won't connect
ssh-keygen -R for {host}, is that safe after a host key change?
man in the middle warning from ssh for {host} since the server was replaced
""", """
a stale fingerprint in known_hosts blocks the connection
server identity mismatch when connecting over ssh after a rebuild
delete the remembered key of a machine that got a new one
is the changed server fingerprint an attack or just the reinstall
strict host checking stops me as the host's identity is a new one
""")

problem("docker_disk_full", "Docker keeps unused images, build cache and stopped containers. `docker system df` shows them; `docker system prune -a --volumes` (mind the volumes) and `docker builder prune` free the space.", """
/var/lib/docker/overlay2 takes {n} GB, how do I clean it up
docker has filled my disk, how can I free space
no space left on device when building {img} with docker
how to remove old docker images and build cache
docker overlay2 folder keeps growing
my root partition is full because of docker images
docker build fails: no space left on device
is docker system prune -a safe to free disk space
how do I delete unused docker volumes and containers to get space back
docker uses {n} GB on {os}, what can I delete
build cache of docker eats all disk space
/var/lib/docker is huge, can I delete things in overlay2?
clean up dangling docker images after many builds of {img}
""", """
reclaim storage that containers and layers occupy
disk usage by leftover image layers keeps rising
prune everything unused from the container engine
the partition with docker data ran out of room
what is safe to remove below the docker data root
""")

problem("nixos_rollback", "Choose the previous generation in the boot menu, then `sudo nixos-rebuild switch --rollback`. `nix-env --list-generations -p /nix/var/nix/profiles/system` lists them.", """
NixOS does not boot after nixos-rebuild switch, how do I go back
how to roll back to the previous generation in NixOS
my last nixos-rebuild broke the desktop, revert to the old configuration
nixos: select an older generation at boot and make it permanent
nixos-rebuild switch --rollback how does it work
list the system generations in NixOS and boot an older one
after changing configuration.nix my system hangs at boot
undo the last nixos-rebuild
broken NixOS update, how can I return to the working generation
rollback nixos from the systemd-boot menu
my nixos configuration change locked me out, restore the former generation
how do I switch NixOS to generation {n}
""", """
return to the earlier system profile after a bad rebuild
pick yesterday's working configuration from the boot loader
declarative linux: revert last activation
the machine fails to start since I edited configuration.nix
make an old nix system generation the default again
""")

problem("postgres_auth_failed", "pg_hba.conf decides how a user may log in: `peer` wants the same system user. Set a password (`ALTER USER app PASSWORD '…'`), use `scram-sha-256` for that line, reload, and connect with `-h localhost`.", """
psql: FATAL: password authentication failed for user "{user}"
FATAL: Peer authentication failed for user "{user}"
can't connect to postgres as {user}, password authentication failed
postgres rejects my password for user {user} though it is right
how do I fix peer authentication failed in PostgreSQL
reset the password of postgres user {user}
pg_hba.conf: allow user {user} to log in with a password
connection to {db} fails, authentication failed for {user}
psql -U {user} says peer authentication failed
my app can't log in to postgresql, auth failed for {user}
no pg_hba.conf entry for host, user "{user}", database "{db}"
which authentication method does postgres use for local connections, {user} is refused
sqlalchemy: password authentication failed for user {user}
""", """
database server turns down the credentials of my role
change md5 or peer to scram in the host based access file
postgres login as the application account is refused
how to set a new password for a postgres role
local socket connection demands the same unix user
""")

problem("postgres_too_many_connections", "Every slot of `max_connections` is taken. See who holds them in pg_stat_activity, close idle ones, use a pool (pgbouncer, or the pool of your framework with a limit), raise max_connections last.", """
FATAL: sorry, too many clients already
postgres: remaining connection slots are reserved for superuser
too many connections to PostgreSQL from {app}
how do I see who uses all postgres connections
should I raise max_connections when postgres says too many clients
my app leaks postgres connections and hits the limit of {n}0
PostgreSQL connection limit reached, new clients are refused
idle connections fill up postgres, how can I close them
do I need pgbouncer when postgres runs out of connections
{app} opens a new postgres connection per request until none are left
connection pool settings so that postgres does not run out of slots
pg_stat_activity shows hundreds of idle sessions, too many clients
""", """
all backend slots of the database are occupied
put a pooler in front of postgres since it has no free sessions
database denies further clients, limit exceeded
terminate sleeping sessions hogging the database server
how many simultaneous clients can postgres take and how to lower demand
""")

problem("k8s_crashloop", "The container starts and ends again. `kubectl logs <pod> --previous` and `kubectl describe pod <pod>` tell why: a crash, a failing probe, a missing setting, or out of memory (exit code 137).", """
pod {pod} is in CrashLoopBackOff
kubernetes keeps restarting {pod}, CrashLoopBackOff
how do I find out why {pod} is in CrashLoopBackOff
kubectl get pods shows {pod} with {n} restarts and CrashLoopBackOff
back-off restarting failed container {pod}
my kubernetes container {pod} exits right after start and is restarted forever
debug a crash looping pod {pod}
kubectl logs shows nothing for {pod} that crashes in a loop
{pod} crashloops since the last deployment
container of {pod} terminates with exit code 1 and kubernetes restarts it again and again
how to see logs of the previous crashed container of {pod}
CrashLoopBackOff after changing the config map of {pod}
liveness probe kills {pod} again and again, crash loop
""", """
workload never becomes stable and is restarted with growing pauses
inspect the earlier instance of a container that dies on start
why does the kubelet restart my application endlessly
deployment doesn't come up: process ends immediately every time
find the cause of repeated container restarts in a cluster
""")

problem("k8s_image_pull", "The node cannot pull the image: a wrong name or tag, or no credentials. `kubectl describe pod` has the message; create a docker-registry secret and name it in imagePullSecrets.", """
pod {pod} stuck in ImagePullBackOff
ErrImagePull from {reg} for {pod}
kubernetes can't pull the image of {pod} from {reg}
how do I give kubernetes credentials for {reg}
failed to pull image: unauthorized: authentication required ({reg})
imagePullSecrets for {reg}, how do I set it up for {pod}
ImagePullBackOff: pull access denied, repository does not exist or may require docker login
{pod} doesn't start because its image can't be pulled
kubectl describe pod says Failed to pull image from {reg}
private registry {reg}: ErrImagePull no basic auth credentials
image tag not found, {pod} is in ImagePullBackOff
kubernetes pulling from {reg} gives 401 unauthorized
""", """
cluster nodes are not allowed to fetch my container image
registry login for pods, which secret is needed
the image cannot be downloaded onto the node
access to private images from within a deployment
manifest unknown when the kubelet fetches an image
""")

problem("nginx_502", "nginx cannot reach the upstream: it is not running, listens on another address, or SELinux forbids it. See /var/log/nginx/error.log and `curl` the upstream's address from the same host.", """
nginx shows 502 Bad Gateway for {site}
502 bad gateway from nginx in front of {app}
connect() failed (111: Connection refused) while connecting to upstream
why does nginx return 502 when {app} is running
nginx reverse proxy to {app} gives 502
{site} is down with 502 Bad Gateway nginx/1.24
how to debug 502 errors of nginx as reverse proxy
proxy_pass to localhost:{port} returns bad gateway
nginx error log: upstream prematurely closed connection, {site} answers 502
after restarting {app} nginx only says 502 bad gateway
nginx in docker can't reach {app}, 502
php-fpm socket missing, nginx 502 on {site}
""", """
the proxy in front cannot talk to the backend
bad gateway though the application seems to be up
web server fails to forward requests to my service
upstream refuses nginx's connection
gateway error page shown for every request behind the reverse proxy
""")

problem("letsencrypt_renewal", "The http-01 challenge must reach this host on port 80. `certbot renew --dry-run` shows the failure; open port 80, serve /.well-known/acme-challenge, check DNS (AAAA too), or use dns-01.", """
certbot renew fails for {site}
Let's Encrypt certificate of {site} expired and renewal doesn't work
certbot: challenge failed for domain, http-01 for {site}
my TLS certificate from let's encrypt is not renewed automatically
how do I renew an expired let's encrypt certificate for {site}
certbot timeout during connect (likely firewall problem)
renewal of {site} certificate: invalid response from /.well-known/acme-challenge 404
certbot renew --dry-run fails on {os}
acme challenge fails behind nginx for {site}
browser says certificate of {site} has expired, certbot did not renew
certbot systemd timer runs but the certificate of {site} is still old
letsencrypt unauthorized: incorrect validation certificate for {site}
""", """
automatic prolongation of the free HTTPS certificate is broken
acme http validation cannot reach my machine
https warning: cert out of date though certbot is installed
verification file for the certificate authority returns not found
why did the cron or timer not refresh my TLS cert
""")

problem("rust_moved_value", "Ownership moved to where the value was passed. Borrow it (`&value`), clone it where a copy is meant, or give it back; for closures and threads use `move` with a clone or an Arc.", """
rust error[E0382]: borrow of moved value: `{var}`
use of moved value `{var}` in Rust
why can't I use {var} after passing it to a function in rust
value borrowed here after move: {var}
rust: {var} moved into closure, how do I still use it afterwards
E0382 use of moved value in a loop over {var}
cannot use String {var} twice in Rust because it was moved
how do I avoid moving {var} when calling a method, rust ownership
rust compiler says move occurs because `{var}` has type String, which does not implement the Copy trait
do I have to clone {var} in rust to use it again
value moved in previous iteration of loop, variable {var} rust
rust thread::spawn moved my {var}, error E0382
for loop consumes my Vec {var} in Rust, I need it later
""", """
ownership was given away and the variable is gone afterwards
keep using a variable after handing it to another function in Rust
borrow instead of transferring ownership
compiler complains about a value that had been moved earlier
when to clone and when to pass a reference in Rust
""")

problem("rust_linker_cc", "rustc needs a C linker. Install it: `apt install build-essential`, `dnf install gcc`, `pacman -S base-devel`, Xcode's command line tools, or on NixOS a shell with gcc.", """
error: linker `cc` not found when I run cargo build
rust: linker cc not found on {os}
cargo build fails: linker `cc` not found, No such file or directory
what do I need to install so rust finds a linker on {os}
fresh rustup install, hello world doesn't link: linker `cc` not found
cargo install fails with linker cc not found
rustc can't link, no cc on {os}
how to install gcc for rust, linker `cc` missing
error: linking with `cc` failed, cc is not installed on {os}
rust in docker slim image: linker `cc` not found
cargo run: could not compile because linker cc was not found
which package provides the linker that cargo needs on {os}
""", """
Rust toolchain lacks a C compiler to link with
build tools required by cargo on a minimal system
compiling my first Rust program fails at linking, nothing to link with
which Debian package makes rustc able to produce binaries
gcc is absent so crates can't be linked
""")

problem("systemd_not_at_boot", "A unit that is started is not enabled. Give it `[Install] WantedBy=multi-user.target` and `systemctl enable --now <unit>`; check `systemctl is-enabled` and its order (After=network-online.target).", """
{unit} does not start at boot
how do I start {unit} automatically after a reboot
systemctl start {unit} works but after reboot it isn't running
my systemd service {unit} is not started on boot
enable {unit} at startup with systemd
after rebooting I must start {unit} by hand every time
systemctl enable {unit} says the unit files have no installation config
{unit} is disabled after reboot, how do I make it permanent
what is the [Install] section for, {unit} isn't started at boot
systemd: autostart {unit} when the machine boots
is WantedBy=multi-user.target needed so that {unit} comes up at boot
server rebooted and {unit} stayed down
""", """
make a daemon come up by itself when the computer starts
service missing after restart of the machine, runs fine when launched manually
unit has no install information and cannot be enabled
launch my program automatically on system startup under systemd
difference of start and enable for a unit
""")

problem("systemd_linger", "User services end with the last session. `loginctl enable-linger <user>` keeps the user manager running without a login, from boot on.", """
my systemd user service stops when I log out
{unit} as user service is killed after I close ssh
how do I keep a systemctl --user service running after logout
user unit {unit} only runs while I'm logged in
loginctl enable-linger, what is it for
systemd --user services don't start before login
tmux and {unit} are killed when I log out of {host}
rootless podman containers stop when I end my ssh session
run {unit} under systemctl --user without being logged in
after logout all my user services on {host} are gone
podman container of my user dies at logout
how can user {user} have services that survive logout
""", """
keep per-user daemons alive without a session
background processes vanish at the end of the login
lingering for an account so its services run from boot
rootless containers end together with my terminal session
user manager exits when nobody is logged in
""")

problem("cron_path", "cron runs with nearly no environment: PATH is /usr/bin:/bin, there is no profile. Use absolute paths, set PATH in the crontab, redirect output to a log, and check `journalctl -u cron`.", """
cron job doesn't run {script} but it works in the shell
crontab: {script} works manually and not from cron
my cron job for {script} does nothing
command not found in cron, {script} runs fine by hand
how do I see the output of {script} run by cron
which PATH does cron use, {script} can't find its programs
cron does not execute {script} at night
environment variables are missing when cron starts {script}
why does {script} behave differently under cron
crontab entry for {script} never fires
python module not found when {script} is run by cron
where is the cron log, {script} didn't run
""", """
scheduled task fails although I can launch it interactively
jobs started by the scheduler lack my shell's environment
nightly script isn't executed or cannot find binaries
set PATH in a crontab
debug a timed job which leaves no trace
""")

problem("cors", "The browser forbids reading an answer of another origin unless the server allows it. Send Access-Control-Allow-Origin (and answer the OPTIONS preflight) on the API, or serve both from one origin by a proxy.", """
blocked by CORS policy: No 'Access-Control-Allow-Origin' header is present
CORS error when {fw} calls our API on localhost:{port}
fetch from {fw} is blocked by CORS
how do I enable CORS in express for {fw}
preflight request doesn't pass access control check
request works in curl and Postman but {fw} says CORS error
access to XMLHttpRequest at http://localhost:{port} from origin http://localhost:5173 has been blocked
cross-origin request blocked in {fw}
which headers must my API send so that {fw} may call it from another origin
CORS with credentials and wildcard origin fails in {fw}
OPTIONS request returns 405 and {fw} reports a CORS failure
fastapi CORS middleware for {fw}, still blocked
""", """
browser denies my page reading a response from a different domain
allow another origin to call the backend
same-origin restrictions stop the javascript client
access control headers for a web API
preflight OPTIONS answered wrongly by the server
""")

problem("react_effect_loop", "The effect changes what it depends on, so it runs for ever. Give it the right dependency array, memoise objects and functions (useMemo, useCallback), and update state by function.", """
useEffect runs in an infinite loop
React: Too many re-renders. React limits the number of renders to prevent an infinite loop
my useEffect calls setState and loops forever
why does useEffect fetch the {table} again and again
react component re-renders endlessly after adding {var} to the dependency array
Maximum update depth exceeded in useEffect
infinite requests from a useEffect with fetch for {table}
how do I stop useEffect from looping when {var} is an object
useEffect dependency array with function causes infinite loop
setState inside useEffect triggers rerender loop with {var}
react hook effect keeps firing because {var} is a new array each render
empty dependency array or not? my effect loads {table} forever
""", """
hook triggers itself over and over
component never stops rendering once data is loaded
dependency list of an effect contains an unstable object
state update within effect causes endless rendering
the page sends the same request nonstop from a hook
""")

problem("node_heap", "V8's heap limit is reached. Raise it with NODE_OPTIONS=--max-old-space-size=4096 if the work needs it; otherwise look for a leak with --inspect and heap snapshots.", """
FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory
node runs out of memory during npm run build
JavaScript heap out of memory with webpack
how do I give node more memory than {n}00 MB
max-old-space-size for the build on {os}
Ineffective mark-compacts near heap limit Allocation failed
next build crashes with heap out of memory
tsc dies with JavaScript heap out of memory
node process {app} crashes after hours with heap limit allocation failed
increase the heap size of nodejs in CI
CALL_AND_RETRY_LAST Allocation failed javascript heap out of memory
vite build killed, node heap limit reached
""", """
V8 aborts since its old space is exhausted
raise the memory ceiling of the javascript runtime
frontend bundling fails for lack of RAM in node
garbage collector can't free enough and node aborts
NODE_OPTIONS to allow a larger heap
""")

problem("wayland_screen_share", "Under Wayland screens are shared through PipeWire and a portal. Install xdg-desktop-portal and the back end of your compositor (-wlr, -gnome, -kde), start pipewire and wireplumber, and enable it in the browser.", """
screen sharing does not work under Wayland
zoom shows a black screen when I share my desktop on wayland
how do I share my screen in Teams on sway
xdg-desktop-portal and pipewire for screen sharing in Firefox
OBS can't capture the screen on Wayland
screen share in Chromium is black on GNOME wayland
hyprland: screen sharing in Discord doesn't work
no window list appears when I try to share my screen on {os} with Wayland
google meet can't present my screen with wayland
which portal do I need for screen capture in KDE wayland
share screen worked in X11 but not in wayland
pipewire screencast portal missing, can't share screen on {os}
""", """
presenting my desktop in video calls shows nothing on a modern compositor
portal backend for screencasts
capture of the display fails outside of Xorg
the meeting app can't see my windows since I left X11
desktop recording is all black with the new display protocol
""")

problem("nvidia_after_kernel", "The driver's module was not built for the new kernel. Install the kernel headers, rebuild (`dkms autoinstall`), regenerate the initramfs and reboot; until then boot the older kernel.", """
black screen after kernel update with nvidia driver
nvidia driver stopped working after a kernel upgrade on {os}
nvidia-smi has failed because it couldn't communicate with the NVIDIA driver
after apt upgrade my {gpu} isn't detected any more
no graphical login after updating the kernel, nvidia module missing
modprobe nvidia: module not found after new kernel
how do I rebuild the nvidia dkms module for the new kernel
{gpu}: driver doesn't load since the kernel update
nvidia kernel module version mismatch after update
system boots to a black screen since the last kernel, {gpu}
dkms failed to build nvidia for the new kernel on {os}
nvidia drivers broken by update, {gpu} falls back to llvmpipe
""", """
proprietary graphics module absent for the fresh kernel
GPU not usable since the last system upgrade
display stays dark after the distribution updated linux
headers missing so dkms could not compile the graphics driver
Driver/library version mismatch reported by the GPU tool
""")

problem("bluetooth_codec", "With the microphone on, the headset falls back to HSP/HFP. Choose the A2DP profile (pavucontrol or `pactl set-card-profile`), use another microphone, and switch off automatic profile changes in WirePlumber.", """
my {phones} sound terrible on linux when the microphone is used
{phones} switch to low quality headset mode in calls
bluetooth audio quality is bad, HSP/HFP instead of A2DP
how do I force A2DP for my {phones}
{phones} only offer the headset profile in pavucontrol
bad sound with {phones} in Zoom over bluetooth
pipewire switches {phones} to HFP and music sounds like a telephone
how to stop the automatic switch to headset profile with {phones}
{phones} are mono and muffled on {os}
bluetooth headphones: A2DP sink profile unavailable
use A2DP and the laptop's own microphone with {phones}
why is the audio of my {phones} so poor as soon as a call starts
""", """
wireless headphones drop to phone-like sound while the mic is active
keep the high fidelity profile on a bluetooth headset
music over bluetooth is tinny during meetings
handsfree profile gets chosen instead of stereo
wireplumber setting against profile autoswitching
""")

problem("wifi_suspend", "The card or its driver does not wake up. Reload the module after resume (a systemd-sleep hook with modprobe -r / modprobe), switch off Wi-Fi power saving, and update firmware and kernel.", """
wifi doesn't work after suspend on my {wifi} card
no wireless after waking the laptop from sleep, {wifi}
{wifi} wifi is gone after resume until I reboot
network manager doesn't reconnect wifi after suspend
after closing the lid wifi stays disconnected, {wifi}
how do I reload the wifi driver after resume for {wifi}
laptop wakes up without wifi on {os}
wifi adapter {wifi} disappears after sleep
must restart NetworkManager after each suspend to get wifi
wlan0 is down after hibernate and suspend with {wifi}
{wifi} can't connect to any network after standby
power saving of {wifi} breaks wifi on resume
""", """
wireless connection dead once the notebook returns from standby
need to reboot to get networking after sleep mode
hook which reloads the WLAN module on wake-up
lid closed and opened, and the internet is off
adapter firmware does not come back from low power state
""")

problem("inotify_limit", "The limit of inotify watches is reached. `sysctl fs.inotify.max_user_watches=524288` and keep it in /etc/sysctl.d; exclude node_modules and target from watching.", """
ENOSPC: System limit for number of file watchers reached
VS Code is unable to watch for file changes in this large workspace
how do I increase the inotify watches limit on {os}
webpack dev server: ENOSPC watch although the disk has space
inotify_add_watch: No space left on device
react-scripts start fails with system limit for number of file watchers
fs.inotify.max_user_watches is too low
{app} can't watch files, inotify limit reached
too many files to watch, nodemon stops with ENOSPC
tail: inotify cannot be used, reverting to polling
what value should max_user_watches have for a big monorepo
file watcher limit reached when starting {app}
""", """
kernel setting for the number of watched files
editor warns it can't follow changes in a big project
hot reload fails for lack of watch handles
no space error from the watcher with plenty of free disk
sysctl to allow more file notifications
""")

problem("terraform_lock", "Another run holds the state's lock, or one died with it. Make sure nobody applies, then `terraform force-unlock <LOCK_ID>`; with CI, let runs queue.", """
Error acquiring the state lock in terraform
terraform plan fails: state lock, ConditionalCheckFailedException
how do I release a stuck terraform lock
terraform apply was cancelled and now the state is locked
terraform force-unlock, is it safe
state blob is already locked terraform azure
lock info: who holds the terraform state lock
CI job died and left a terraform lock in DynamoDB
terraform says state is locked by {user}
terraform could not acquire lock for {n} minutes
remove a stale lock of the terraform state in S3
two pipelines run terraform at once and one fails with a lock error
""", """
infrastructure state cannot be locked as an earlier run left its lock
unlock the remote backend after an aborted apply
stale lock entry blocks planning my infrastructure
how to break the lock of a dead infrastructure-as-code run
lock ID required to unlock the state
""")

problem("ci_cargo_cache", "Cache ~/.cargo/registry, ~/.cargo/git and target by a hash of Cargo.lock (Swatinem/rust-cache does it), use sccache for several jobs, and switch off incremental builds in CI.", """
GitHub Actions rebuilds all Rust dependencies every time
how do I cache cargo builds in GitHub Actions
my Rust CI takes {n} minutes, dependencies are compiled again and again
rust-cache action doesn't restore target
speed up cargo build in CI
cache the target directory of a Rust workspace in GitLab CI
actions/cache for cargo: which paths and key
cargo compiles everything from scratch in GitHub Actions although I cache it
sccache or rust-cache for a faster CI of a Rust project
Rust pipeline is slow since crates are rebuilt on each push
cache key with Cargo.lock hash isn't hit in CI
how can I avoid recompiling crates in every workflow run
""", """
continuous integration for a crate is too slow as nothing is reused
reuse compiled dependencies between pipeline runs
which folders of cargo should be stored between jobs
build artefacts of Rust aren't kept by the workflow
make pull request checks of a Rust repository quicker
""")

problem("mysql_lock_wait", "Another transaction holds the rows too long. Find it in `SHOW ENGINE INNODB STATUS` or performance_schema.data_locks, keep transactions short, index the WHERE, and retry on 1205 and 1213.", """
ERROR 1205 (HY000): Lock wait timeout exceeded; try restarting transaction
mysql Deadlock found when trying to get lock; try restarting transaction
lock wait timeout exceeded on table {table}
how do I find which transaction blocks {table} in MySQL
InnoDB deadlocks when two workers update {table}
updating {table} fails with lock wait timeout in MySQL
show engine innodb status for deadlock on {table}
mysql 1213 deadlock during insert into {table}
kill the query which locks {table} in mysql
should I raise innodb_lock_wait_timeout for {table}?
transactions on {table} wait for locks until they time out, mysql
mariadb: update of {table} hangs and then lock wait timeout exceeded
""", """
rows held by another session make my statement give up
find and end a blocking InnoDB transaction
concurrent writers collide in the MySQL server
retry after error 1213
statements hang as someone else has uncommitted changes
""")

problem("redis_oom", "Redis reached maxmemory and may evict nothing. Set maxmemory-policy (allkeys-lru for a cache), give keys a TTL, look for big keys with `redis-cli --bigkeys`, or raise maxmemory.", """
redis: OOM command not allowed when used memory > 'maxmemory'
redis memory is full and writes fail
how do I set an eviction policy in redis
redis refuses SET because maxmemory is reached
which maxmemory-policy should I use for a redis cache
redis uses {n} GB of memory, how can I find big keys
noeviction: redis answers OOM errors to {app}
redis evicts nothing and rejects writes
keys in redis never expire and memory grows until OOM
limit the memory of redis with allkeys-lru
MISCONF or OOM from redis when {app} caches {table}
redis-cli --bigkeys to see what fills the memory
""", """
cache server rejects writes as it's at its memory ceiling
automatic removal of least recently used entries in the key-value store
in-memory store ran out of its allotted RAM
give cached entries a time to live so memory doesn't fill
largest entries of my redis instance
""")

problem("kafka_rebalance", "The consumer took longer than max.poll.interval.ms between polls and was thrown out of its group. Lower max.poll.records, raise the interval, process elsewhere, and use cooperative rebalancing.", """
kafka consumer keeps rebalancing on topic {topic}
CommitFailedException: the group has already rebalanced
consumer lag on {topic} grows and the group rebalances all the time
kafka: max.poll.interval.ms exceeded, consumer leaves the group
why is my kafka consumer for {topic} kicked out of the consumer group
kafka consumer group for {topic} is stuck in PreparingRebalance
how do I reduce rebalances of a kafka consumer group
lag of {n}000 messages on {topic}, consumer cannot commit offsets
offset commit cannot be completed since the consumer is not part of an active group
set max.poll.records so that the {topic} consumer doesn't time out
messages of {topic} are processed twice after a kafka rebalance
consumer poll timeout has expired for {topic}
""", """
members are evicted from the group as processing takes too long
partitions get reassigned constantly among my workers
offsets fail to commit after reassignment of partitions
slow message handler loses its partition
tune polling interval of the streaming consumer
""")

problem("python_circular_import", "Two modules import each other while one is half loaded. Move what both need into a third, import within the function, or `import module` instead of `from module import name`.", """
ImportError: cannot import name from partially initialized module '{mod}' (most likely due to a circular import)
circular import in python between {mod} and views
how do I solve a circular import with {mod}.py
python partially initialized module {mod} has no attribute
two python modules import each other and {mod} fails
AttributeError partially initialized module '{mod}'
how to avoid circular imports in a flask app with {mod}
cannot import name 'User' from '{mod}' circular
python import cycle: {mod} imports services and services imports {mod}
type hints cause a circular import of {mod}
where should I put the import to break the cycle with {mod}
sqlalchemy {mod} and routes import each other, circular import error
""", """
modules that depend on one another can't be loaded
break an import cycle by moving shared code
import inside a function to dodge mutual dependencies
half-loaded module raises ImportError
TYPE_CHECKING guard against cyclic dependencies of annotations
""")

problem("cuda_oom", "The GPU's memory is full. Lower the batch size, use mixed precision, gradient accumulation or checkpointing, free what is not needed, and see with nvidia-smi who else uses the card.", """
torch.cuda.OutOfMemoryError: CUDA out of memory
RuntimeError: CUDA out of memory. Tried to allocate {size} on my {gpu}
training on {gpu} runs out of GPU memory
how can I reduce GPU memory usage in PyTorch on a {gpu}
CUDA out of memory although nvidia-smi shows free memory on {gpu}
pytorch: out of memory with batch size {n}
does torch.cuda.empty_cache help against CUDA out of memory
fine-tuning fails on {gpu} with CUDA OOM
which batch size fits on a {gpu}? I get cuda out of memory
validation loop runs out of GPU memory in pytorch
memory of {gpu} isn't freed after training, cuda out of memory
stable diffusion: CUDA out of memory on {gpu}
gradient checkpointing or mixed precision against out of memory on {gpu}
""", """
graphics card lacks memory for training my network
VRAM exhausted while computing gradients
smaller batches or half precision to fit the model on the card
allocation failure on the device in torch
free memory on the accelerator between epochs
""")

problem("llama_slow", "The model runs on the processor. Build with CUDA (or Vulkan/Metal), give `-ngl 99` to put the layers on the GPU, choose a quantisation that fits (Q4_K_M), and set the threads to the physical cores.", """
llama.cpp is very slow with {model}
{model} in llama.cpp only gives {n} tokens per second
how do I offload layers to the GPU in llama.cpp for {model}
ollama doesn't use my {gpu} with {model}
llama-server runs {model} on CPU instead of {gpu}
n-gpu-layers: how many for {model} on a {gpu}
local LLM {model} generates too slowly
which quantization of {model} is fast on a {gpu}
llama.cpp was built without CUDA, {model} is slow
speed up {model} with llama.cpp on {os}
{gpu} idle while ollama answers with {model}
how many threads should llama.cpp use for {model}
""", """
token generation of my self-hosted model crawls
put more transformer layers onto the graphics card
inference happens on the processor though a card is there
choose gguf quantisation for speed
make a local language model answer quicker
""")

problem("git_large_file", "The file is in history, so deleting it now is not enough. `git filter-repo --path <file> --invert-paths` (or BFG), then force-push after telling the others; keep large files in Git LFS.", """
GitHub rejects my push: file is {size}; this exceeds GitHub's file size limit of 100.00 MB
how do I remove a large file from git history
I committed a {size} file by accident and can't push
remote: error: GH001: Large files detected
delete a big file from all commits in git
git repository is {size} because of an old video, shrink it
git filter-repo to purge a {size} file from history
BFG or filter-branch to remove large files from git
committed a secret dump of {size}, how do I erase it from history
do I need git LFS for a {size} model file
I removed the {size} file but git push still says it is too large
.git folder is {size}, how to clean up big blobs in history
""", """
rewrite past commits without the huge binary
pre-receive hook declines since a blob exceeds the limit
shrink a repository bloated by an accidental upload
purge an object from every revision
large assets shouldn't live in version control itself
""")

problem("docker_dns", "The container asks a resolver it cannot reach, often 127.0.0.53 of the host. Set `dns` in /etc/docker/daemon.json, restart docker, check the firewall, and use a user-defined network for names of containers.", """
DNS doesn't work inside my docker container
docker container can't resolve hostnames
apt-get update in docker build: Temporary failure resolving 'deb.debian.org'
could not resolve host inside container {img}
ping 8.8.8.8 works in the container but names don't resolve
set DNS server for docker containers
docker: temporary failure in name resolution in {img}
pip install in docker build fails, name resolution error
container {img} has internet but no DNS
docker uses wrong resolv.conf, name lookup fails in {img}
getaddrinfo EAI_AGAIN in docker container {img}
systemd-resolved and docker: containers can't look up names
""", """
name lookups fail from within containers
hostname resolution during image build is broken
the container's resolver configuration points to an unreachable nameserver
domain names unknown inside docker while raw addresses work
daemon.json option for nameservers
""")

problem("restic_locked", "A restic run died and left its lock. Make sure that none is running, then `restic unlock`; `restic check` afterwards.", """
restic: unable to create lock in backend: repository is already locked
restic backup fails because the repository is locked by PID
how do I remove a stale lock from a restic repository
restic unlock, is it safe
repository is already locked exclusively by {user} on {host}
restic prune was interrupted and now the repo is locked
restic forget --prune says repository is already locked
stale restic locks after my laptop went to sleep
backup to {host} with restic stopped, lock older than {n} days
restic lock was created at yesterday, process no longer exists
nightly restic backup on {host} fails with a lock error
restic check cannot lock the repository
""", """
backup repository still locked by a dead process
clear leftover locks of my backup tool
snapshotting refuses since another backup seems to be running
break locks in the backup store after an aborted prune
exclusive lock remains in the repository though nothing runs
""")

assert len(PROBLEMS) == 40, len(PROBLEMS)


def filled(template, chance):
    """A template with its slots filled."""
    return re.sub(r"\{(\w+)\}", lambda slot: chance.choice(SLOTS[slot[1]]), template)


def questions_of(templates, chance, count):
    """So many different questions, of every template about as many."""
    made = {}
    turn = 0
    while len(made) < count:
        template = templates[turn % len(templates)]
        question = filled(chance.choice(BEFORE) + template + chance.choice(AFTER), chance)
        made.setdefault(question, None)
        turn += 1
    return list(made)


def made(seed, count, others):
    """So many questions of each problem, and so many that belong to none: (question, answer, problem or None), mixed."""
    asked = []
    for name, answer, templates, _ in PROBLEMS:
        chance = random.Random(f"{seed} {name}")
        asked += [(question, answer, name) for question in questions_of(templates, chance, count)]
    chance = random.Random(seed)
    asked += [(question, answer, None) for question, answer in chance.sample(NOISE, others)]
    chance.shuffle(asked)
    return asked
