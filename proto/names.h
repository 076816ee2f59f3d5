/* The names this protocol adds to Matrix. Source: docs/protocol.md. */
#pragma once

/* In an m.direct_to_device EDU's content: {user id: claim}. */
#define NAME_DEVICE_LISTS "io.freshet.device_lists"
/* In one device's content: the claim of the client that sent it. */
#define NAME_DEVICE_LIST "io.freshet.device_list"
/* In the answer to a transaction. */
#define NAME_VERDICTS "io.freshet.verdicts"
/* The type of the to-device message that tells a sending device that its copy is stale. */
#define NAME_DEVICE_LIST_STALE "io.freshet.device_list.stale"
/* Not ours: the id that clients give one to-device message. Source: Synapse, api/constants.py. */
#define NAME_MSGID "org.matrix.msgid"
