# Shale for the peer comparison. a: one directory, 1+0.
peer_layouts="a"
export S3_ACCESS=benchaccess S3_SECRET=benchsecretbench
peer_start() { # LAYOUT DIR
    mkdir -p "$2/d1"
    export SHALE_ROOT_USER=$S3_ACCESS SHALE_ROOT_PASSWORD=$S3_SECRET
    spawn shale "${SHALE_BINARY:-$BIN/shale}" server \
        --address 127.0.0.1:9000 --admin-address 127.0.0.1:9009 "$2/d1"
    PEER_EP=127.0.0.1:9000
}
